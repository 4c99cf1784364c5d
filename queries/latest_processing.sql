-- Of a CCD that several releases have, the one that was processed last, as `lake.versions.processing`
-- says: by date, then by version, then by release.
with

-- An exposure of one release has nothing to compare: most of a lake is left out at once.
counted as (

    select camera, expnum, count(distinct release) as n_releases
    from exposures
    where ($first_night::integer is null or night >= $first_night)
        and ($last_night::integer is null or night <= $last_night)
    group by camera, expnum

),

chosen as (

    select camera, expnum
    from counted
    where n_releases > 1 or not $repeated_only::boolean

),

-- Few: a version is taken apart once, not for every CCD.
pipelines as (

    select plver, natural_order(trim(plver)) as version
    from (
        select distinct ccds.plver
        from ccds
        semi join chosen using (camera, expnum)
        where ccds.plver is not null
    )

),

ranked as (

    select
        ccds.release,
        ccds.camera,
        ccds.night,
        ccds.expnum,
        ccds.ccdnum,
        ccds.ccdname,
        ccds.plver,
        ccds.procdate,
        ccds.image_filename,
        count(*) over of_ccd as n_processings,
        row_number() over (
            of_ccd
            order by
                trim(coalesce(ccds.procdate, '')) desc,
                coalesce(pipelines.version, '') desc,
                release_order(ccds.release) desc
        ) as place
    from ccds
    semi join chosen using (camera, expnum)
    left join pipelines using (plver)
    window of_ccd as (partition by ccds.camera, ccds.expnum, ccds.ccdnum)

)

select
    release,
    camera,
    night,
    expnum,
    ccdnum,
    ccdname,
    plver,
    procdate,
    image_filename,
    n_processings
from ranked
where place = 1
order by camera, night, expnum, ccdnum
