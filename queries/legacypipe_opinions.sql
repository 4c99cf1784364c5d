-- legacypipe's own cuts beside the lists, exposure by exposure: a source of opinion of its own.
with

listed as (

    select
        camera,
        expnum,
        string_agg(distinct source, ',' order by source) as sources,
        string_agg(distinct class, ',' order by class) as classes
    from (
        select camera, expnum, source, unnest(if(len(classes) > 0, classes, [null])) as class
        from reports
        where is_bad and is_current
    )
    group by camera, expnum

),

-- The depth cuts leave good exposures out: they are no opinion.
masks as (

    select coalesce(bit_or(value), 0) as mask
    from cut_bits
    where not list_contains($ignore::varchar[], name)

),

decoded as (

    select
        used.ccd_cuts,
        string_agg(cut_bits.name, ',' order by cut_bits.bit) as bits
    from (select distinct ccd_cuts from exposures) as used
    cross join masks
    inner join cut_bits on used.ccd_cuts & masks.mask & cut_bits.value <> 0
    group by used.ccd_cuts

)

select
    exposures.release,
    exposures.camera,
    exposures.night,
    exposures.expnum,
    exposures.n_ccds,
    exposures.n_cut,
    decoded.bits,
    listed.sources,
    listed.classes,
    case
        when listed.expnum is null then 'legacypipe only'
        when decoded.bits is null then 'lists only'
        else 'both'
    end as said_by
from exposures
left join listed using (camera, expnum)
left join decoded using (ccd_cuts)
where ($release::varchar is null or exposures.release = $release)
    and (listed.expnum is not null or decoded.bits is not null)
order by release_order(exposures.release), exposures.camera, exposures.night, exposures.expnum
