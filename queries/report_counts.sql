-- What the lists say: reports of each source by class and raw reason.
select
    source,
    camera,
    case when len(classes) > 0 then array_to_string(classes, ',') end as classes,
    reason,
    count(*) as n_reports,
    count(*) filter (where is_bad) as n_bad,
    count(distinct expnum) as n_exposures
from reports
where is_current and (len($sources::varchar[]) = 0 or list_contains($sources, source))
group by all
order by source, camera, classes nulls last, n_reports desc, reason
