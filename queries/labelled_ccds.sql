-- The class that each labelled CCD of a release would train: the first by precedence.
select
    labels.camera,
    labels.night,
    labels.expnum,
    labels.ccdnum,
    arg_min(labels.class, classes.precedence) as class
from labels
inner join classes on classes.name = labels.class and classes.training
where labels.release = $release
    and labels.origin is null
    and (len($sources::varchar[]) = 0 or list_contains($sources, labels.source))
group by labels.camera, labels.night, labels.expnum, labels.ccdnum
order by labels.camera, labels.night, labels.expnum, labels.ccdnum
