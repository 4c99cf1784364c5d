-- View: each exposure that a model is scored with and has voted on: its class by the labels, its vote.
with

-- Several classes on one exposure: the bad one of most of its CCDs; then by name.
truth as (

    select model, camera, night, expnum, class
    from test_sets
    where predicted is null
    group by model, camera, night, expnum, class
    qualify row_number() over (
        partition by model, camera, night, expnum
        order by class = 'good', count(*) desc, class
    ) = 1

)

select
    truth.model,
    truth.camera,
    truth.night,
    truth.expnum,
    truth.class,
    -- A vote that finds bad CCDs alone names their class.
    votes.class as voted,
    votes.n_bad,
    votes.n_ccds
from truth
inner join votes using (model, camera, night, expnum)
