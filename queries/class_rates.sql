-- How often each class comes, by night (or month, or year) and band: of the lists, or of a model.
with

bad as (

    select distinct camera, night, expnum, class
    from labels
    where $model::varchar is null
        and class <> 'good'
        and ($release::varchar is null or release = $release)
    union all
    select camera, night, expnum, class
    from votes
    where model = $model and is_bad

),

dated as (

    -- An exposure of several releases is one exposure.
    select camera, night, expnum, min(band) as band
    from exposures
    where ($release::varchar is null or release = $release)
    group by camera, night, expnum

),

periods as (

    select
        camera,
        night,
        expnum,
        band,
        case $period
            when 'night' then night
            when 'month' then night // 100
            else night // 10000
        end as period
    from dated

),

totals as (

    select camera, period, band, count(*) as n_exposures
    from periods
    group by all

),

counts as (

    select periods.camera, periods.period, periods.band, bad.class, count(*) as n_bad
    from periods
    inner join bad using (camera, night, expnum)
    group by all

)

select
    counts.camera,
    counts.period,
    counts.band,
    counts.class,
    counts.n_bad,
    totals.n_exposures,
    counts.n_bad / totals.n_exposures as rate
from counts
inner join totals
    on totals.camera = counts.camera
    and totals.period = counts.period
    and totals.band is not distinct from counts.band
order by counts.camera, counts.period, counts.band, counts.class
