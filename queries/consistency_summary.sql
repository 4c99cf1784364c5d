-- Entropies of groups, by class and over all.
select
    coalesce(class, 'all') as class,
    count(*) as n,
    count(*) filter (where entropy = 0) / nullif(count(*), 0) as alike,
    avg(entropy) as mean,
    quantile_cont(entropy, 0.5) as median,
    quantile_cont(entropy, 0.9) as p90,
    max(entropy) as max
from groups
group by grouping sets ((class), ())
order by grouping(class) desc, n desc, class
