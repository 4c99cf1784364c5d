-- CCDs that a release kept (no bit of ccd_cuts) although a list calls them bad now.
with

known_bad as (

    select
        release,
        camera,
        night,
        expnum,
        ccdnum,
        string_agg(distinct class, ',' order by class) as classes,
        string_agg(distinct source, ',' order by source) as sources
    from labels
    where ($release::varchar is null or release = $release)
        and (len($sources::varchar[]) = 0 or list_contains($sources, source))
    group by release, camera, night, expnum, ccdnum

)

select
    ccds.release,
    ccds.camera,
    ccds.night,
    ccds.expnum,
    ccds.ccdnum,
    ccds.ccdname,
    known_bad.classes,
    known_bad.sources
from ccds
inner join known_bad using (release, camera, night, expnum, ccdnum)
where ccds.ccd_cuts = 0
order by release_order(ccds.release), ccds.camera, ccds.night, ccds.expnum, ccds.ccdnum
