-- What the examples need beside the schema `feather`: a table of their own, and a user with the role feather_enqueuer.
CREATE SCHEMA my_app;
CREATE TABLE my_app.signups (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL,
    connection_id uuid NOT NULL
);

CREATE ROLE my_app LOGIN;
GRANT USAGE ON SCHEMA my_app TO my_app;
GRANT SELECT, INSERT ON my_app.signups TO my_app;
GRANT feather_enqueuer TO my_app;
