-- How many CCDs of each exposure are cut, and by which bits.
with

decoded as (

    select
        used.ccd_cuts,
        string_agg(cut_bits.name, ',' order by cut_bits.bit) as bits
    from (select distinct ccd_cuts from exposures) as used
    inner join cut_bits on used.ccd_cuts & cut_bits.value <> 0
    group by used.ccd_cuts

)

select
    exposures.release,
    exposures.camera,
    exposures.night,
    exposures.expnum,
    exposures.n_ccds,
    exposures.n_cut,
    exposures.ccd_cuts,
    decoded.bits
from exposures
inner join decoded using (ccd_cuts)
where ($release::varchar is null or exposures.release = $release)
    and exposures.n_cut >= $min_fraction::double * exposures.n_ccds
order by release_order(exposures.release), exposures.camera, exposures.night, exposures.expnum
