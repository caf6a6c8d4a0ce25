// Signs somebody up and asks for a sync of their connection: both, or neither.
//
//	DATABASE_URL=postgresql://my_app@localhost/app go run main.go CONNECTION_ID [--fail]
package main

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"os"

	_ "github.com/lib/pq"
)

func signUp(ctx context.Context, db *sql.DB, email, connectionID string, fail bool) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // After Commit it does nothing.
	if _, err := tx.ExecContext(ctx, "INSERT INTO my_app.signups (email, connection_id) VALUES ($1, $2)", email, connectionID); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "SELECT feather.enqueue($1)", connectionID); err != nil {
		return err
	}
	if fail {
		return errors.New("failing, as asked")
	}
	return tx.Commit()
}

func main() {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err == nil {
		fail := os.Args[len(os.Args)-1] == "--fail"
		err = signUp(context.Background(), db, "ada@example.com", os.Args[1], fail)
	}
	if err != nil {
		log.Fatal(err)
	}
}
