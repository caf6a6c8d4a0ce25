import java.sql.Connection;
import java.sql.DriverManager;
import java.util.UUID;

/**
 * Signs somebody up and asks for a sync of their connection: both, or neither.
 *
 * DATABASE_URL='jdbc:postgresql://localhost/app?user=my_app' java -cp postgresql.jar Enqueue.java CONNECTION_ID [--fail]
 */
class Enqueue {
    static void signUp(Connection db, String email, UUID connectionId, boolean fail) throws Exception {
        db.setAutoCommit(false);
        try (var insert = db.prepareStatement("INSERT INTO my_app.signups (email, connection_id) VALUES (?, ?)");
             var enqueue = db.prepareStatement("SELECT feather.enqueue(?)")) {
            insert.setString(1, email);
            insert.setObject(2, connectionId);
            insert.executeUpdate();
            enqueue.setObject(1, connectionId);
            enqueue.execute();
            if (fail) throw new IllegalStateException("failing, as asked");
            db.commit();
        } catch (Exception e) {
            db.rollback();
            throw e;
        }
    }

    public static void main(String[] args) throws Exception {
        try (var db = DriverManager.getConnection(System.getenv("DATABASE_URL"))) {
            signUp(db, "ada@example.com", UUID.fromString(args[0]), args[args.length - 1].equals("--fail"));
        }
    }
}
