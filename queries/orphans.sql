-- Reports about an exposure, or a CCD of it, that no CCD table of the lake knows.
with

known_exposures as (

    select distinct camera, expnum from exposures

),

-- Only exposures that a list names by CCD: the whole table is fifty times larger.
known_ccds as (

    select distinct ccds.camera, ccds.expnum, ccds.ccdnum
    from ccds
    semi join reports
        on reports.camera = ccds.camera
        and reports.expnum = ccds.expnum
        and reports.ccdname is not null
        and reports.is_current

)

select
    reports.source,
    reports.camera,
    reports.expnum,
    reports.ccdname,
    reports.reason,
    reports.is_bad,
    reports.round,
    reports.file,
    reports.line,
    if(known_exposures.expnum is null, 'exposure', 'CCD') as unknown
from reports
left join known_exposures using (camera, expnum)
left join known_ccds
    on known_ccds.camera = reports.camera
    and known_ccds.expnum = reports.expnum
    and known_ccds.ccdnum = reports.ccdnum
where reports.is_current
    and (len($sources::varchar[]) = 0 or list_contains($sources, source))
    and (
        known_exposures.expnum is null
        or (reports.ccdname is not null and known_ccds.expnum is null)
    )
order by source, camera, expnum, ccdname nulls first, file, line
