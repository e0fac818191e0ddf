\set aid random(1, 100000)
\startpipeline
select abalance from pgbench_accounts where aid = :aid;
select tbalance from pgbench_tellers where tid = 1;
select 1;
\endpipeline
begin;
\startpipeline
select bbalance from pgbench_branches where bid = 1;
\endpipeline
commit;
