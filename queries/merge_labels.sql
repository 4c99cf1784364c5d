-- Reports resolved onto the CCDs of a release: a report on a whole exposure covers all its CCDs.
-- One row per CCD, class and source; what several reports say is joined. What this program wrote
-- into a list has an origin, unless a person says the same.
with

bad_reports as (

    select
        source,
        camera,
        expnum,
        ccdnum,
        ccdname,
        reason,
        coalesce(inspector, analyst) as inspector,
        quality,
        comment,
        time,
        origin,
        unnest(if(len(classes) > 0, classes, [null])) as class
    from reports
    where is_bad and is_current

)

select
    ccds.camera,
    ccds.night,
    ccds.expnum,
    ccds.ccdnum,
    any_value(ccds.ccdname) as ccdname,
    bad_reports.class,
    bad_reports.source,
    string_agg(distinct bad_reports.reason, ' | ' order by bad_reports.reason) as reason,
    string_agg(distinct bad_reports.inspector, ', ' order by bad_reports.inspector) as inspector,
    avg(bad_reports.quality)::float as quality,
    string_agg(distinct bad_reports.comment, ' | ' order by bad_reports.comment) as comment,
    max(bad_reports.time) as time,
    case
        when count(bad_reports.origin) = count(*)
        then string_agg(distinct bad_reports.origin, ', ' order by bad_reports.origin)
    end as origin
from ccds
inner join bad_reports
    on bad_reports.camera = ccds.camera
    and bad_reports.expnum = ccds.expnum
    and (
        bad_reports.ccdname is null
        -- A name that is not the camera's own may still be the table's.
        or coalesce(bad_reports.ccdnum = ccds.ccdnum, bad_reports.ccdname = ccds.ccdname)
    )
where ccds.release = $release
group by
    ccds.camera, ccds.night, ccds.expnum, ccds.ccdnum, bad_reports.class, bad_reports.source
order by
    ccds.camera,
    ccds.night,
    ccds.expnum,
    ccds.ccdnum,
    bad_reports.class nulls first,
    bad_reports.source
