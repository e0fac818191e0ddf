-- What psql 18 can do beyond its forerunners: pipelines, named prepared statements, in protocol messages.
\startpipeline
select 1 as one \bind \sendpipeline
select $1::int + 1 as two \bind 1 \sendpipeline
select 'three' as three \bind \sendpipeline
\endpipeline
select $1::text || $2::text as joined \parse joiner
\bind_named joiner a b \g
\bind_named joiner c d \g
\close_prepared joiner
\startpipeline
create temp table work (id int) \bind \sendpipeline
insert into work values ($1) \bind 5 \sendpipeline
\syncpipeline
select 1 / (id - 5) as wrong from work \bind \sendpipeline
select 'skipped' as skipped \bind \sendpipeline
\syncpipeline
select id from work \bind \sendpipeline
\flushrequest
\getresults
\endpipeline
select count(*) from work;
begin;
\startpipeline
insert into work values ($1) \bind 6 \sendpipeline
rollback \bind \sendpipeline
\endpipeline
select count(*) from work;
drop table work;
