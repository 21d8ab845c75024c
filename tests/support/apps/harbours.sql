-- The database that Datasette shows.
create table harbours (id integer primary key, name text not null, country text not null, berths integer not null);
insert into harbours (name, country, berths) values
  ('Gdynia', 'Poland', 52), ('Gdansk', 'Poland', 38), ('Swinoujscie', 'Poland', 20), ('Bergen', 'Norway', 31),
  ('Stavanger', 'Norway', 18), ('Aarhus', 'Denmark', 27), ('Esbjerg', 'Denmark', 24), ('Visby', 'Sweden', 12);
create table ships (name text primary key, harbour integer not null references harbours (id), tons integer not null);
insert into ships values ('Albatross', 1, 1200), ('Kittiwake', 4, 300), ('Petrel', 6, 4100);
