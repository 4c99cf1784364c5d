-- The CCDs that a classifier learns from: one class each, balanced, with weights (section 2.7).
-- What only lines of this program say is no label, unless $own_lines.
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
        and (labels.origin is null or $own_lines::boolean)
    group by labels.release, labels.camera, labels.night, labels.expnum, labels.ccdnum

),

listed as (

    select camera, expnum
    from listed_exposures
    where not is_own or $own_lines::boolean

),

-- CCDs that people looked at and found good; 0: the whole exposure.
confirmed as (

    select distinct camera, expnum, coalesce(ccdnum, 0) as ccdnum
    from reports
    where source = 'inspection' and is_current and not is_bad and (ccdname is null or ccdnum is not null)

),

embedded as (

    select camera, expnum, ccdnum, true as has_vector
    from embeddings
    where embedder = $embedder::varchar

),

-- At most one exposure for each CCD wanted: as varied as it can be, and no draw over all CCDs.
-- What people found good comes first, whatever legacypipe cuts of it.
good_exposures as (

    select exposures.release, exposures.camera, exposures.night, exposures.expnum
    from exposures
    anti join listed using (camera, expnum)
    left join (select distinct camera, expnum, true as seen from confirmed) as looked
        using (camera, expnum)
    cross join seeded
    left join (select distinct camera, expnum, has_vector from embedded) as held
        using (camera, expnum)
    where ($release::varchar is null or exposures.release = $release)
        and ($embedder::varchar is null or held.has_vector)
        and (coalesce(exposures.ccd_cuts, 0) = 0 or looked.seen)
        and ($max_ebv::double is null or exposures.ebv is null or exposures.ebv < $max_ebv)
    order by
        looked.seen nulls last,
        md5_number(seed || exposures.camera || exposures.expnum),
        release_order(exposures.release)
    limit $n_good::bigint

),

-- The CCDs of all these exposures in one pass over the table.
images as materialized (

    select
        ccds.release,
        ccds.camera,
        ccds.night,
        ccds.expnum,
        ccds.ccdnum,
        ccds.ccdname,
        ccds.ccd_cuts
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

drawn as (

    select
        images.*,
        md5_number(seed || images.camera || images.expnum || '-' || images.ccdnum) as draw,
        confirmed.expnum is not null as seen
    from images
    semi join good_exposures using (release, camera, night, expnum)
    left join embedded using (camera, expnum, ccdnum)
    left join confirmed
        on confirmed.camera = images.camera
        and confirmed.expnum = images.expnum
        and confirmed.ccdnum in (0, images.ccdnum)
    cross join seeded
    where (coalesce(images.ccd_cuts, 0) = 0 or confirmed.expnum is not null)
        and ($embedder::varchar is null or embedded.has_vector)
    qualify row_number() over (
        partition by images.release, images.camera, images.expnum, images.ccdnum
        order by confirmed.ccdnum
    ) = 1

),

ranked as (

    select *, row_number() over (partition by seen order by draw, release_order(release)) as rank
    from drawn

),

good as (

    -- Those that people looked at are the doubtful ones: no more than half may be.
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
    from ranked as images
    inner join classes on classes.name = 'good'
    order by
        images.seen and images.rank <= $n_good::bigint // 2 desc,
        images.draw,
        release_order(images.release)
    limit $n_good::bigint

),

sample as (

    select * from bad
    union all
    select * from good

)

select release, camera, night, expnum, ccdnum, ccdname, class, weight, sources
from sample
order by release_order(release), camera, night, expnum, ccdnum
