-- Exposures near the galactic plane, or behind much dust.
with

-- The north galactic pole in J2000 is at 192.85948, +27.12825 degrees (Hipparcos, section 1.5.3).
placed as (

    select
        release,
        camera,
        night,
        expnum,
        band,
        ra_bore,
        dec_bore,
        ebv,
        degrees(asin(least(1, greatest(-1,
            sin(radians(dec_bore)) * sin(radians(27.12825))
            + cos(radians(dec_bore)) * cos(radians(27.12825)) * cos(radians(ra_bore - 192.85948))
        )))) as galactic_latitude
    from exposures
    where ($release::varchar is null or release = $release)
        and isfinite(ra_bore) and isfinite(dec_bore)

)

select
    release,
    camera,
    night,
    expnum,
    band,
    ra_bore,
    dec_bore,
    galactic_latitude,
    ebv
from placed
where abs(galactic_latitude) < $max_latitude::double or ebv > $min_ebv::double
order by release_order(release), camera, night, expnum
