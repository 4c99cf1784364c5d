-- Exposures that a release kept, in whole or in part, although a list calls them bad now:
-- "included in DR9" (section 5.1).
with

known_bad as (

    select
        release,
        camera,
        night,
        expnum,
        count(distinct ccdnum) as n_ccds_bad,
        string_agg(distinct class, ',' order by class) as classes,
        string_agg(distinct source, ',' order by source) as sources
    from labels
    where ($release::varchar is null or release = $release)
        and (len($sources::varchar[]) = 0 or list_contains($sources, source))
    group by release, camera, night, expnum

),

kept_and_bad as (

    select labels.release, labels.camera, labels.expnum, count(distinct labels.ccdnum) as n_kept
    from labels
    inner join ccds using (release, camera, night, expnum, ccdnum)
    where ccds.ccd_cuts = 0
        and ($release::varchar is null or labels.release = $release)
        and (len($sources::varchar[]) = 0 or list_contains($sources, labels.source))
    group by labels.release, labels.camera, labels.expnum

)

select
    exposures.release,
    exposures.camera,
    exposures.night,
    exposures.expnum,
    exposures.band,
    exposures.n_ccds,
    known_bad.n_ccds_bad,
    kept_and_bad.n_kept,
    known_bad.classes,
    known_bad.sources
from known_bad
inner join exposures using (release, camera, night, expnum)
inner join kept_and_bad using (release, camera, expnum)
order by release_order(exposures.release), exposures.camera, exposures.night, exposures.expnum
