-- The CCDs that the tables of any release know of some exposures.
select
    expnum,
    list(distinct ccdname) as ccdnames
from ccds
where camera = $camera and expnum in (select unnest($expnums::bigint[]))
group by expnum
