-- A model's scores by camera, band and night, on what it has not seen: good or bad, and the class.
with

scored as (

    select
        own.camera,
        exposures.band,
        own.night,
        own.class,
        own.predicted,
        own.probability >= $min_probability::float as is_kept
    from scored_ccds as own
    left join exposures using (release, camera, night, expnum)
    where model = $model and is_own and predicted is not null

),

grouped as (

    select 'all' as part, 'all' as name, * from scored
    union all by name
    select 'camera' as part, camera as name, * from scored
    union all by name
    select 'band' as part, coalesce(band, 'not known') as name, * from scored
    union all by name
    select 'night' as part, camera || ' ' || night as name, * from scored

),

counts as (

    select
        part,
        name,
        count(*) as n_scored,
        count(*) filter (where is_kept) as n,
        count(*) filter (where is_kept and class <> 'good') as n_bad,
        count(*) filter (where is_kept and predicted <> 'good') as n_found,
        count(*) filter (where is_kept and class <> 'good' and predicted <> 'good') as n_hits,
        count(*) filter (where is_kept and predicted = class) as n_right
    from grouped
    group by all

)

select
    part,
    name,
    n,
    n_bad,
    n / n_scored as coverage,
    n_hits / nullif(n_found, 0) as precision,
    n_hits / nullif(n_bad, 0) as recall,
    n_right / nullif(n, 0) as accuracy
from counts
order by list_position(['all', 'camera', 'band', 'night'], part), name
