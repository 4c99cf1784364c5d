-- What a source calls bad, in its own words: a row for each exposure or CCD and reason.
select distinct
    expnum,
    ccdname,
    coalesce(ccdnum, -1) as ccdnum,
    reason,
    classes
from reports
where source = $source and camera = $camera and is_bad
order by expnum, ccdnum, ccdname, reason
