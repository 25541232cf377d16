import com.sun.jna.Library;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.IntByReference;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;

/** Language models through rnnfast's C API, by JNA: handles that are freed by close(), and errors as exceptions. */
final class Rnnfast {
    private static final int ABI_VERSION = 1; // RNNFAST_ABI_VERSION in rnnfast.h
    private static final int AS_STORED = -1;

    /** The functions of rnnfast.h. A size_t is a long: this is for 64-bit processors. */
    private interface C extends Library {
        int rnnfast_abi_version();
        String rnnfast_last_error();
        int rnnfast_model_load(String path, int weights, PointerByReference model);
        void rnnfast_model_free(Pointer model);
        int rnnfast_model_vocab_size(Pointer model, LongByReference size);
        int rnnfast_encode(Pointer model, byte[] text, long size, int[] ids, LongByReference count);
        int rnnfast_decode(Pointer model, int[] ids, long count, byte[] text, LongByReference size);
        int rnnfast_state_new(Pointer model, PointerByReference state);
        void rnnfast_state_free(Pointer state);
        int rnnfast_step(Pointer model, int token, Pointer state, Pointer logits, long size);
        int rnnfast_sampler_new(double temperature, long topK, double topP, long seed, PointerByReference sampler);
        void rnnfast_sampler_free(Pointer sampler);
        int rnnfast_sample(Pointer sampler, Pointer logits, long size, IntByReference token);
    }

    private static final C LIBRARY =
            Native.load("rnnfast", C.class, Map.of(Library.OPTION_STRING_ENCODING, "UTF-8"));

    private Rnnfast() {}

    // The message is that of this thread's last failed call.
    private static void check(int status) {
        if (status != 0) throw new IllegalArgumentException(LIBRARY.rnnfast_last_error());
    }

    /** The logits of the next token, in memory that the library writes without copying. */
    static final class Logits {
        private final Memory memory;
        private final long size;

        Logits(long size) {
            this.size = size;
            memory = new Memory(size * Float.BYTES);
        }

        float get(long token) {
            return memory.getFloat(token * Float.BYTES);
        }
    }

    /** A model is immutable: threads share it. */
    static final class Model implements AutoCloseable {
        private final Pointer handle;

        Model(String path) {
            if (LIBRARY.rnnfast_abi_version() != ABI_VERSION)
                throw new IllegalStateException("librnnfast has another ABI than this program");
            PointerByReference model = new PointerByReference();
            check(LIBRARY.rnnfast_model_load(path, AS_STORED, model));
            handle = model.getValue();
        }

        long vocabSize() {
            LongByReference size = new LongByReference();
            check(LIBRARY.rnnfast_model_vocab_size(handle, size));
            return size.getValue();
        }

        int[] encode(String text) {
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            int[] ids = new int[bytes.length + 1]; // a text has at most as many tokens as bytes
            LongByReference count = new LongByReference(ids.length);
            check(LIBRARY.rnnfast_encode(handle, bytes, bytes.length, ids, count));
            return Arrays.copyOf(ids, (int) count.getValue());
        }

        String decode(int token) {
            byte[] text = new byte[256];
            LongByReference size = new LongByReference(text.length);
            check(LIBRARY.rnnfast_decode(handle, new int[] {token}, 1, text, size));
            return Native.toString(text, "UTF-8");
        }

        @Override
        public void close() {
            LIBRARY.rnnfast_model_free(handle);
        }
    }

    /** The state of one stream of a model; one thread uses it at a time. */
    static final class State implements AutoCloseable {
        private final Model model;
        private final Pointer handle;

        State(Model model) {
            this.model = model;
            PointerByReference state = new PointerByReference();
            check(LIBRARY.rnnfast_state_new(model.handle, state));
            handle = state.getValue();
        }

        /** Reads one token; the logits become those of the next one. */
        void step(int token, Logits logits) {
            check(LIBRARY.rnnfast_step(model.handle, token, handle, logits.memory, logits.size));
        }

        @Override
        public void close() {
            LIBRARY.rnnfast_state_free(handle);
        }
    }

    /** Draws tokens from logits. */
    static final class Sampler implements AutoCloseable {
        private final Pointer handle;

        Sampler(double temperature, long seed) {
            PointerByReference sampler = new PointerByReference();
            check(LIBRARY.rnnfast_sampler_new(temperature, 0, 1, seed, sampler));
            handle = sampler.getValue();
        }

        int sample(Logits logits) {
            IntByReference token = new IntByReference();
            check(LIBRARY.rnnfast_sample(handle, logits.memory, logits.size, token));
            return token.getValue();
        }

        @Override
        public void close() {
            LIBRARY.rnnfast_sampler_free(handle);
        }
    }
}
