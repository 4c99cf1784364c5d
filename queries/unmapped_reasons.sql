-- Reasons that the vocabulary gives no class: candidates for an alias or a rule.
select
    source,
    reason,
    count(*) as n_reports,
    count(*) filter (where is_bad) as n_bad,
    count(distinct (camera, expnum)) as n_exposures,
    arg_min(file || ', line ' || line, (round, file, line)) as first_seen
from reports
where is_current
    and origin is null
    and len(classes) = 0
    and (len($sources::varchar[]) = 0 or list_contains($sources, source))
group by source, reason
order by n_bad desc, n_reports desc, source, reason
