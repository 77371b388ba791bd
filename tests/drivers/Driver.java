// The JDBC driver through whatever listens on the port: what it read, a line per part.
//
// Enters: a URL, a role and its password. Leaves: lines `part: values` on stdout. Where a recipe's
// name stands in a comment, the tests put the recipe. The marks in the texts are for the tests.
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Driver {
    // recipe: jdbc-connect
    // recipe: jdbc-transaction
    // recipe: jdbc-session

    static String url;
    static Properties login = new Properties();

    static String email(Object where, String who) {
        return "SELECT email FROM users WHERE id = " + where + " /* truth:" + who + " */";
    }

    static String simple(Connection connection, int id, String who) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(email(id, who))) {
            rows.next();
            return rows.getString(1);
        }
    }

    static String bound(PreparedStatement statement, int id) throws SQLException {
        statement.setInt(1, id);
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getString(1);
        }
    }

    static void say(String part, List<?> values) {
        synchronized (System.out) {
            System.out.println(part + ": " + String.join(" ", values.stream().map(String::valueOf).toList()));
        }
    }

    static void connection() throws SQLException {
        String who = "jdbc_person";
        List<Object> found = new ArrayList<>();
        try (Connection connection = connectAs(url, login, who)) {
            for (int i = 1; i <= 4; i++) found.add(simple(connection, i, who));
            try (PreparedStatement statement = connection.prepareStatement(email("?", who))) {
                for (int i = 5; i <= 16; i++) found.add(bound(statement, i));
            }
            say("connection", found);
            try (Statement statement = connection.createStatement()) {
                statement.execute("SELECT 1 / 0");
            } catch (SQLException error) {
                say("error", List.of(error.getSQLState()));
            }
        }
    }

    static void batchAndCursor() throws SQLException {
        String mark = " /* truth:jdbc_batch */";
        List<Object> found = new ArrayList<>();
        try (Connection connection = connectAs(url, login, "jdbc_batch")) {
            String update = "UPDATE users SET name = name WHERE id = ?" + mark;
            try (PreparedStatement statement = connection.prepareStatement(update)) {
                for (int i = 1; i <= 5; i++) {
                    statement.setInt(1, i);
                    statement.addBatch();
                }
                say("batch", Arrays.stream(statement.executeBatch()).boxed().toList());
            }
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(10);
                String text = "SELECT id FROM users WHERE id <= 35 ORDER BY id" + mark;
                try (ResultSet rows = statement.executeQuery(text)) {
                    while (rows.next()) found.add(rows.getInt(1));
                }
            }
            connection.rollback();
            say("cursor", found);
        }
    }

    static void copy() throws Exception {
        String mark = " /* truth:jdbc_copy */";
        try (Connection connection = connectAs(url, login, "jdbc_copy")) {
            connection.setAutoCommit(false);
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 500; i++) lines.append("jdbc-").append(i).append('\t').append(i).append('\n');
            String into = "COPY products (name, price) FROM STDIN" + mark;
            long in = copy.copyIn(into, new StringReader(lines.toString()));
            StringWriter out = new StringWriter();
            String text = "COPY (SELECT name FROM products WHERE name LIKE 'jdbc-%') TO STDOUT" + mark;
            say("copy", List.of(in, copy.copyOut(text, out), out.toString().lines().count()));
            connection.rollback();
        }
    }

    static void named() throws SQLException {
        // Names stay with a backend: in one transaction they work without a pooler that knows them.
        Properties properties = new Properties();
        properties.putAll(login);
        properties.setProperty("options", "-c scalple.user=jdbc_named");
        properties.setProperty("prepareThreshold", "1");
        List<Object> found = new ArrayList<>();
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            connection.setAutoCommit(false);
            try (PreparedStatement statement =
                    connection.prepareStatement(email("?", "jdbc_named"))) {
                for (int i = 1; i <= 6; i++) found.add(bound(statement, i));
            }
            connection.commit();
        }
        say("named", found);
    }

    static void byUrl() throws SQLException {
        String more = "?options=-c%20scalple.user=jdbc_url&preferQueryMode=simple";
        List<Object> found = new ArrayList<>();
        try (Connection connection = DriverManager.getConnection(url + more, login);
                PreparedStatement statement =
                        connection.prepareStatement(email("?", "jdbc_url"))) {
            for (int i = 1; i <= 3; i++) found.add(bound(statement, i));
        }
        say("url", found);
    }

    static void cancel() throws Exception {
        try (Connection connection = connectAs(url, login, "jdbc_cancel");
                Statement statement = connection.createStatement()) {
            Timer timer = new Timer(true);
            timer.schedule(
                    new TimerTask() {
                        @Override
                        public void run() {
                            try {
                                statement.cancel();
                            } catch (SQLException error) {
                                throw new IllegalStateException(error);
                            }
                        }
                    },
                    300);
            try {
                statement.execute("SELECT pg_sleep(20)");
            } catch (SQLException error) {
                say("cancel", List.of(error.getSQLState(), simple(connection, 1, "jdbc_cancel")));
            }
        }
    }

    static void transactions() throws SQLException {
        List<Object> found = new ArrayList<>();
        try (Connection connection = connectAs(url, login, "jdbc_service")) {
            for (int i = 1; i <= 24; i++) {
                String who = "jdbc_local_" + i % 4;
                int id = i;
                try {
                    actingAs(
                            connection,
                            who,
                            (same) -> {
                                try (PreparedStatement statement =
                                        same.prepareStatement(email("?", who))) {
                                    found.add(bound(statement, id));
                                }
                                simple(same, id, who);
                                if (id % 6 == 0) throw new SQLException("on purpose");
                            });
                } catch (SQLException error) {
                    if (!"on purpose".equals(error.getMessage())) throw error;
                }
                simple(connection, i, "jdbc_service");
            }
        }
        say("transactions", found);
    }

    static void checkouts() throws SQLException {
        List<Object> found = new ArrayList<>();
        try (Connection connection = connectAs(url, login, "jdbc_home")) {
            for (int i = 1; i <= 24; i++) {
                String who = "jdbc_taken_" + i % 4;
                take(connection, who);
                try (PreparedStatement statement = connection.prepareStatement(email("?", who))) {
                    found.add(bound(statement, i));
                }
                giveBack(connection);
                simple(connection, i, "jdbc_home");
            }
        }
        say("checkouts", found);
    }

    interface Part {
        void play() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        login.setProperty("user", arguments[1]);
        login.setProperty("password", arguments[2]);
        List<Part> parts =
                List.of(
                        Driver::connection,
                        Driver::batchAndCursor,
                        Driver::copy,
                        Driver::named,
                        Driver::byUrl,
                        Driver::cancel,
                        Driver::transactions,
                        Driver::checkouts);
        List<Thread> threads = new ArrayList<>();
        for (Part part : parts) {
            Thread thread =
                    new Thread(
                            () -> {
                                try {
                                    part.play();
                                } catch (Exception error) {
                                    error.printStackTrace();
                                    System.exit(1);
                                }
                            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) thread.join();
    }
}
