-- What a source calls bad, in its own words: a row for each exposure or CCD and reason. Lines that
-- this program wrote into its lists are not its words.
select distinct
    expnum,
    ccdname,
    coalesce(ccdnum, -1) as ccdnum,
    reason,
    classes
from reports
where source = $source and camera = $camera and is_bad and is_current and origin is null
order by expnum, ccdnum, ccdname, reason
