-- How many labels a release has, and how many CCDs and exposures they are about.
select
    count(*) as rows,
    count(distinct (camera, expnum, ccdnum)) as ccds,
    count(distinct (camera, expnum)) as exposures,
    count_if(class is null) as unmapped,
    count(origin) as own
from labels
where release = $release
