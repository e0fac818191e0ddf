-- What people do in psql: its own commands, COPY, variables, cursors, large objects. Nothing here differs
-- from run to run.
\set ON_ERROR_STOP 0
create table work (id serial primary key, name text not null default 'x' check (name <> ''), at date);
create index work_name on work (name) where at is null;
create view some_work as select id, name from work where id < 10;
create function add(a int, b int default 1) returns int language sql as 'select a + b';
comment on table work is 'a table';
insert into work (name) select 'name ' || i from generate_series(1, 20) i returning id;
\d work
\d+ some_work
\dt
\di
\dv
\ds
\df add
\sf add
\dn
\dT
\l+ template0
\du postgres
\dx
\dconfig work_mem
\encoding
\pset null (null)
select id, at from work where id < 4 order by id;
\x
select * from work where id = 1;
\x
\pset format csv
table some_work;
\pset format aligned
\copy (select id, name from work order by id) to stdout
\copy work (id, name) from stdin
100	copied
101	and\tescaped
\.
copy work (id, name) from stdin;
102	again
x	wrong
\.
select count(*) from work;
select format('select %s as made', i) from generate_series(1, 3) i \gexec
select 7 as seven, 'text' as words \gset
\echo :seven :words
select :seven + 1 as eight, :'words' as quoted;
select i as row, i % 2 as column, i * i as value from generate_series(1, 4) i \crosstabview
select $1::int + $2::int as bound \bind 40 2 \g
prepare p (int) as select $1 * 2 as doubled;
execute p (21);
deallocate p;
begin;
declare c scroll cursor for select id from work order by id;
fetch 3 from c;
move last in c;
fetch prior from c;
savepoint s;
select 1 / 0;
select 'not reached';
rollback to s;
select 'reached';
\set FETCH_COUNT 5
select id from work order by id limit 12;
\set FETCH_COUNT 0
commit;
\set AUTOCOMMIT off
insert into work (name) values ('never');
rollback;
\set AUTOCOMMIT on
select count(*) from work where name = 'never';
\set ON_ERROR_ROLLBACK on
begin;
select * from nowhere;
select 'goes on';
rollback;
\set ON_ERROR_ROLLBACK off
do $$ begin raise notice 'noted'; raise warning 'warned' using hint = 'a hint', detail = 'a detail'; end $$;
select 1 as one \; select 2 as two \; select 3 as three;
select pg_notify('nobody', 'hears');
set work_mem = '7MB';
show work_mem;
reset work_mem;
show work_mem;
set role nobody_of_this_name;
select lo_from_bytea(4242, decode(repeat('ab', 5000), 'hex')) as lo \gset
select length(lo_get(:lo)) as bytes;
\lo_export :lo /dev/null
\lo_unlink :lo
explain (costs off) select * from work where id = 5;
discard all;
\echo :SQLSTATE :LAST_ERROR_SQLSTATE :ROW_COUNT
drop view some_work;
drop function add;
drop table work;
