import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * Continues a prompt, token by token. For character models.
 *
 * <pre>LD_LIBRARY_PATH=/opt/rnnfast/lib java -cp /usr/share/java/jna.jar:classes Generate MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]</pre>
 */
final class Generate {
    private static String argument(String[] arguments, int place, String otherwise) {
        return arguments.length > place ? arguments[place] : otherwise;
    }

    private static void generate(String[] arguments, PrintStream out) {
        int length = Integer.parseInt(argument(arguments, 2, "200"));
        double temperature = Double.parseDouble(argument(arguments, 3, "0.8"));
        long seed = Long.parseUnsignedLong(argument(arguments, 4, "0"));
        try (Rnnfast.Model model = new Rnnfast.Model(arguments[0]);
                Rnnfast.State state = new Rnnfast.State(model);
                Rnnfast.Sampler sampler = new Rnnfast.Sampler(temperature, seed)) {
            Rnnfast.Logits logits = new Rnnfast.Logits(model.vocabSize());
            for (int token : model.encode(arguments[1])) state.step(token, logits);
            out.print(arguments[1]);
            for (int i = 0; i < length; i++) {
                int token = sampler.sample(logits);
                out.print(model.decode(token));
                state.step(token, logits);
            }
            out.println();
        }
    }

    public static void main(String[] arguments) {
        if (arguments.length < 2) {
            System.err.println("usage: java Generate MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]");
            System.exit(2);
        }
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        try {
            generate(arguments, out);
        } catch (IllegalArgumentException | IllegalStateException error) { // of the library, or of a number
            out.flush();
            System.err.println(error.getMessage());
            System.exit(1);
        }
        out.flush();
    }
}
