-- How many CCDs and exposures of a release each bit of ccd_cuts touches.
with

by_value as (

    select release, camera, expnum, ccd_cuts, count(*) as n_ccds
    from ccds
    where ccd_cuts <> 0 and ($release::varchar is null or release = $release)
    group by all

)

select
    by_value.release,
    cut_bits.bit,
    cut_bits.name,
    cut_bits.meaning,
    sum(by_value.n_ccds)::bigint as n_ccds,
    count(distinct (by_value.camera, by_value.expnum)) as n_exposures
from by_value
inner join cut_bits on by_value.ccd_cuts & cut_bits.value <> 0
group by by_value.release, cut_bits.bit, cut_bits.name, cut_bits.meaning
order by release_order(by_value.release), cut_bits.bit
