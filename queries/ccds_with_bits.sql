-- CCDs with given bits of ccd_cuts, decoded.
with

wanted as (

    select coalesce(bit_or(value), 0) as mask
    from cut_bits
    where list_contains($bits::varchar[], name)

),

-- A few hundred values stand for millions of CCDs.
decoded as (

    select
        used.ccd_cuts,
        string_agg(cut_bits.name, ',' order by cut_bits.bit) as bits
    from (select distinct ccd_cuts from ccds) as used
    cross join wanted
    inner join cut_bits on used.ccd_cuts & cut_bits.value <> 0
    where case
        when $match = 'all' then used.ccd_cuts & wanted.mask = wanted.mask
        else used.ccd_cuts & wanted.mask <> 0
    end
    group by used.ccd_cuts

)

select
    ccds.release,
    ccds.camera,
    ccds.night,
    ccds.expnum,
    ccds.ccdnum,
    ccds.ccdname,
    ccds.ccd_cuts,
    decoded.bits
from ccds
inner join decoded using (ccd_cuts)
where ($release::varchar is null or ccds.release = $release)
order by release_order(ccds.release), ccds.camera, ccds.night, ccds.expnum, ccds.ccdnum
limit $limit::bigint
