-- Which of the keys of a list no CCD table knows: the exposure at all, or this CCD of it.
with

keys as (
    select
        unnest($expnums::bigint[]) as expnum,
        unnest($ccdnames::varchar[]) as ccdname
),

known_exposures as (
    select distinct expnum from ccds where camera = $camera
),

known_ccds as (
    select distinct ccds.expnum, ccds.ccdname
    from ccds
    semi join keys on keys.expnum = ccds.expnum and keys.ccdname = ccds.ccdname
    where ccds.camera = $camera
)

select keys.expnum, keys.ccdname
from keys
anti join known_exposures on keys.ccdname is null and keys.expnum = known_exposures.expnum
anti join known_ccds on keys.expnum = known_ccds.expnum and keys.ccdname = known_ccds.ccdname
order by keys.expnum, keys.ccdname nulls first
