import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * pgJDBC under HikariCP: three connections for sixteen workers that read (with a server-side cursor, too), fail, roll back and read again. With `write`
 * as second argument they write, too; with `read` a write is refused and the connection goes back to the pool whole.
 */
public class Pool {
    static final String CHANGE = "UPDATE orders SET total = total + 1 WHERE id = 1";

    public static void main(String[] arguments) throws Exception {
        boolean writes = arguments[1].equals("write");
        var config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://" + env("PGHOST") + ":" + env("PGPORT") + "/" + env("PGDATABASE"));
        config.setUsername(env("PGUSER"));
        config.setPassword(env("PGPASSWORD"));
        config.addDataSourceProperty("sslmode", env("PGSSLMODE"));
        config.addDataSourceProperty("sslrootcert", env("PGSSLROOTCERT"));
        config.addDataSourceProperty("prepareThreshold", "2");
        config.setMaximumPoolSize(3);
        config.setAutoCommit(false);
        config.setReadOnly(!writes);
        config.setConnectionInitSql("SELECT 1");
        try (var pool = new HikariDataSource(config)) {
            var workers = Executors.newFixedThreadPool(16);
            var ended = new ArrayList<Future<?>>();
            for (int worker = 0; worker < 16; worker++) {
                int id = worker;
                ended.add(workers.submit(() -> {
                    work(pool, id, writes);
                    return null;
                }));
            }
            for (var end : ended) end.get();
            workers.shutdown();
        }
    }

    static void work(HikariDataSource pool, int id, boolean writes) throws SQLException {
        for (int round = 0; round < 5; round++) {
            try (Connection c = pool.getConnection()) {
                try (var select = c.prepareStatement("SELECT ?::int + 1")) {
                    for (int n = 0; n < 3; n++) {
                        select.setInt(1, id);
                        var rows = select.executeQuery();
                        check(rows.next() && rows.getInt(1) == id + 1);
                    }
                }
                try (var series = c.prepareStatement("SELECT generate_series(1, 300)")) {
                    series.setFetchSize(100);
                    int read = 0;
                    for (var rows = series.executeQuery(); rows.next();) read++;
                    check(read == 300);
                }
                fails(c, "SELECT 1/0", "22012");
                if (!writes) {
                    // The wall within the driver's own session, and the rails in front of it.
                    fails(c, CHANGE, "42501");
                    c.commit();
                    continue;
                }
                try (var update = c.createStatement()) {
                    var before = c.setSavepoint();
                    check(update.executeUpdate(CHANGE) == 1);
                    c.rollback(before);
                    check(update.executeUpdate(CHANGE) == 1);
                }
                c.commit();
            }
        }
    }

    static void fails(Connection c, String sql, String state) throws SQLException {
        try (var statement = c.createStatement()) {
            statement.execute(sql);
            throw new IllegalStateException("no error: " + sql);
        } catch (SQLException refused) {
            check(refused.getSQLState().equals(state));
            c.rollback();
        }
    }

    static String env(String name) {
        return System.getenv(name);
    }

    static void check(boolean holds) {
        if (!holds) throw new IllegalStateException("it does not hold");
    }
}
