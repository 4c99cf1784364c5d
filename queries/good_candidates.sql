-- Exposures that nobody objects to: in no list, no bit on any CCD, little galactic dust.
select
    exposures.release,
    exposures.camera,
    exposures.night,
    exposures.expnum,
    exposures.band,
    exposures.exptime,
    exposures.ebv,
    exposures.n_ccds
from exposures
anti join listed_exposures using (camera, expnum)
where ($release::varchar is null or exposures.release = $release)
    and coalesce(exposures.ccd_cuts, 0) = 0
    and (
        $max_ebv::double is null
        or exposures.ebv < $max_ebv
        or (exposures.ebv is null and not $known_ebv::boolean)
    )
order by release_order(exposures.release), exposures.camera, exposures.night, exposures.expnum
