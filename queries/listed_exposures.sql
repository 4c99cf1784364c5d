-- Exposures that are listed, and whether people say so or lines of this program alone (`is_own`).
-- Listed is what the current edition of any list names, as a whole or by a CCD, or a label is of.
-- What inspectors call good is not listed; what they are unsure of is.
select camera, expnum, bool_and(origin is not null) as is_own
from (
    select camera, expnum, origin
    from reports
    where is_current and (is_bad is distinct from false or source <> 'inspection')
    union all
    select camera, expnum, origin
    from labels
)
group by camera, expnum
