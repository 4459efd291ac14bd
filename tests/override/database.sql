create table items (number integer primary key, name text, weight real);
with recursive count(n) as (select 1 union all select n + 1 from count where n < 20000)
  insert into items select n, 'item ' || (n * 7919 % 20011), n / 8.0 from count;
create index by_name on items (name);
select count(*), sum(weight), max(name) from items;
select name, weight from items where name like 'item 199%' order by name limit 5;
begin;
update items set name = name || ' changed' where number % 3 = 0;
delete from items where number % 5 = 0;
rollback;
delete from items where number % 7 = 0;
select a.number, b.number from items a join items b on a.name = b.name || ''
  where a.number < 5;
select group_concat(name, ';')
  from (select name from items order by weight desc limit 20);
select length(group_concat(name)) from items;
vacuum;
pragma integrity_check;
