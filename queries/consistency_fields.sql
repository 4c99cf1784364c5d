-- The classes that a model votes for exposures of one field and band: how they differ, in bits.
-- A field is what lies within the radius of its first exposure. The sky is cut into rows and
-- columns no smaller than the radius, so that nothing is compared beyond the neighbouring cells.
with

pointings as (

    -- An exposure of several releases is one exposure, as the last of them has it.
    select
        camera,
        expnum,
        coalesce(arg_max(band, release_order(release)), '') as band,
        arg_max(ra_bore, release_order(release)) as ra,
        arg_max(dec_bore, release_order(release)) as "dec"
    from exposures
    where ra_bore is not null and dec_bore is not null
    group by camera, expnum

),

rows_of_sky as (

    select
        votes.camera,
        votes.expnum,
        votes.class,
        pointings.band,
        pointings.ra % 360 as ra,
        pointings."dec",
        floor((pointings."dec" + 90) / ($radius / 60))::bigint as sky_row
    from votes
    inner join pointings using (camera, expnum)
    where votes.model = $model

),

near_rows as (

    select *, unnest([sky_row - 1, sky_row, sky_row + 1]) as near_row
    from rows_of_sky

),

near_columns as (

    select
        *,
        -- As many columns as fit where the row is nearest to its pole.
        greatest(
            1,
            floor(
                360 / ($radius / 60) * cos(
                    radians(
                        least(
                            90,
                            greatest(
                                abs(near_row * ($radius / 60) - 90),
                                abs((near_row + 1) * ($radius / 60) - 90)
                            )
                        )
                    )
                )
            )
        )::bigint as n_columns,
        least(floor(ra / 360 * n_columns)::bigint, n_columns - 1) as sky_column
    from near_rows

),

leaders as (

    select
        camera,
        band,
        sky_row,
        sky_column,
        min(expnum) as leader,
        arg_min(ra, expnum) as ra,
        arg_min("dec", expnum) as "dec"
    from near_columns
    where near_row = sky_row
    group by camera, band, sky_row, sky_column

),

looks as (

    select
        *,
        unnest([
            (sky_column + n_columns - 1) % n_columns, sky_column, (sky_column + 1) % n_columns
        ]) as near_column
    from near_columns

),

assigned as (

    select looks.camera, looks.band, looks.expnum, looks.class, min(leaders.leader) as field
    from looks
    inner join leaders
        on leaders.camera = looks.camera
        and leaders.band = looks.band
        and leaders.sky_row = looks.near_row
        and leaders.sky_column = looks.near_column
    where 2 * degrees(
        asin(
            least(
                1,
                sqrt(
                    pow(sin(radians(leaders."dec" - looks."dec") / 2), 2)
                    + cos(radians(leaders."dec")) * cos(radians(looks."dec"))
                    * pow(sin(radians(leaders.ra - looks.ra) / 2), 2)
                )
            )
        )
    ) <= $radius / 60
    group by looks.camera, looks.band, looks.expnum, looks.class

),

counted as (

    select camera, band, field, class, count(*) as n
    from assigned
    group by camera, band, field, class

),

shares as (

    select *, n / sum(n) over (partition by camera, band, field) as share
    from counted

)

select
    shares.camera,
    shares.field,
    shares.band,
    any_value(pointings.ra) as ra,
    any_value(pointings."dec") as "dec",
    sum(shares.n)::bigint as n_exposures,
    first(shares.class order by shares.n desc, shares.class) as class,
    max(shares.share) as agreement,
    count(*) as n_classes,
    abs(sum(shares.share * log2(shares.share))) as entropy
from shares
inner join pointings on pointings.camera = shares.camera and pointings.expnum = shares.field
group by shares.camera, shares.field, shares.band
having sum(shares.n) > 1
order by entropy desc, shares.camera, shares.field
