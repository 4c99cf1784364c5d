-- View: the probability of each class on each CCD that a model is scored with (its own split), and
-- whether the labels say that class; any bad: all but good.
with

own as (

    select model, release, camera, night, expnum, ccdnum, class, class_index, probabilities
    from scored_ccds
    where is_own and predicted is not null

),

names as (

    select distinct model, class, class_index from own

)

select
    model,
    release,
    camera,
    night,
    expnum,
    ccdnum,
    'any bad' as class,
    -- Good is the first of the probabilities.
    1::float - probabilities[1] as probability,
    class <> 'good' as is_true
from own
union all
select
    own.model,
    own.release,
    own.camera,
    own.night,
    own.expnum,
    own.ccdnum,
    names.class,
    own.probabilities[names.class_index] as probability,
    own.class = names.class as is_true
from own
inner join names using (model)
