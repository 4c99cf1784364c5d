-- How much of each release legacypipe leaves out.
with

by_release as (

    select
        release,
        camera,
        sum(n_ccds)::bigint as n_ccds,
        sum(coalesce(n_cut, 0))::bigint as n_ccds_cut,
        count(*) as n_exposures,
        count(*) filter (where n_cut > 0) as n_exposures_touched,
        count(*) filter (where n_cut = n_ccds) as n_exposures_cut
    from exposures
    group by release, camera

)

select
    release,
    camera,
    n_ccds,
    n_ccds_cut,
    n_exposures,
    n_exposures_touched,
    n_exposures_cut,
    n_exposures_touched / n_exposures as fraction_touched,
    n_exposures_cut / n_exposures as fraction_cut
from by_release
order by release_order(release), camera
