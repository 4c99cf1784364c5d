-- How often a model is right, by how sure it is: on what it has not seen.
with

own as (

    select camera, night, expnum, ccdnum, class, probability
    from predictions
    where model = $model

),

scored as (

    select
        own.probability::double as probability,
        own.class = holdouts.class as is_right,
        least(floor(own.probability::double * $bins::integer)::integer, $bins - 1) as bin
    from holdouts
    inner join own using (camera, night, expnum, ccdnum)
    where holdouts.model = $model and holdouts.predicted is null

)

select
    bin / $bins as low,
    (bin + 1) / $bins as high,
    count(*) as n,
    -- The last digits of a sum of fractions depend on its order.
    round(avg(probability), 9) as probability,
    avg(is_right::integer) as share_right
from scored
group by bin
order by bin
