-- The CCDs that a classifier learns from: one class each, balanced, with weights (section 2.7).
-- Draws depend on the seed and the CCD's numbers alone: the same in every run and on every machine.
with

seeded as (

    select coalesce($seed::bigint, 0)::varchar || '/' as seed

),

candidates as (

    select
        labels.release,
        labels.camera,
        labels.night,
        labels.expnum,
        labels.ccdnum,
        any_value(labels.ccdname) as ccdname,
        -- Causes that can be seen in the pixels come before what they lead to.
        arg_min(labels.class, classes.precedence) as class,
        string_agg(distinct labels.source, ',' order by labels.source) as sources
    from labels
    inner join classes on classes.name = labels.class and classes.training
    where labels.class <> 'good'
        and ($release::varchar is null or labels.release = $release)
        and (len($sources::varchar[]) = 0 or list_contains($sources, labels.source))
    group by labels.release, labels.camera, labels.night, labels.expnum, labels.ccdnum

),

listed as (

    select camera, expnum
    from reports
    where is_bad or source <> 'inspection'
    union
    select camera, expnum
    from labels

),

-- At most one exposure for each CCD wanted: as varied as it can be, and no draw over all CCDs.
good_exposures as (

    select exposures.release, exposures.camera, exposures.night, exposures.expnum
    from exposures
    anti join listed using (camera, expnum)
    cross join seeded
    where ($release::varchar is null or exposures.release = $release)
        and coalesce(exposures.ccd_cuts, 0) = 0
        and ($max_ebv::double is null or exposures.ebv is null or exposures.ebv < $max_ebv)
    order by md5_number(seed || exposures.camera || exposures.expnum), exposures.release
    limit $n_good::bigint

),

-- The CCDs of all these exposures in one pass over the table.
images as materialized (

    select ccds.release, ccds.camera, ccds.night, ccds.expnum, ccds.ccdnum, ccds.ccdname
    from ccds
    semi join (
        select release, camera, night, expnum from candidates
        union
        select release, camera, night, expnum from good_exposures
    ) as chosen using (release, camera, night, expnum)
    where ($max_ebv::double is null or ccds.ebv is null or ccds.ebv < $max_ebv)

),

bad as (

    select
        candidates.release,
        candidates.camera,
        candidates.night,
        candidates.expnum,
        candidates.ccdnum,
        candidates.ccdname,
        candidates.class,
        classes.weight,
        candidates.sources
    from candidates
    inner join classes on classes.name = candidates.class
    semi join images using (release, camera, night, expnum, ccdnum)
    cross join seeded
    where classes.keep >= 1
        -- 128 bits as a share of their range.
        or md5_number(
            seed || candidates.camera || candidates.expnum || '-' || candidates.ccdnum
        )::double / pow(2, 128) < classes.keep

),

good as (

    select
        images.release,
        images.camera,
        images.night,
        images.expnum,
        images.ccdnum,
        images.ccdname,
        'good' as class,
        classes.weight,
        '' as sources
    from images
    semi join good_exposures using (release, camera, night, expnum)
    inner join classes on classes.name = 'good'
    cross join seeded
    order by
        md5_number(seed || images.camera || images.expnum || '-' || images.ccdnum),
        images.release
    limit $n_good::bigint

),

sample as (

    select * from bad
    union all
    select * from good

)

select release, camera, night, expnum, ccdnum, ccdname, class, weight, sources
from sample
order by release, camera, night, expnum, ccdnum
