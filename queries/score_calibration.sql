-- How often a model is right, by how sure it is: on what it has not seen.
with

scored as (

    select
        probability::double as probability,
        predicted = class as is_right,
        least(floor(probability::double * $bins::integer)::integer, $bins - 1) as bin
    from scored_ccds
    where model = $model and is_own and predicted is not null

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
