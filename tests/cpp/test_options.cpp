// Options described once: what is written reads back, and a value that an option cannot have is refused by name.
#include <stdexcept>

#include "helpers.h"
#include "model_files.h"
#include "models/language_model.h"
#include "models/seq2seq/seq2seq.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

template <class Options>
std::string copied(const std::string& json) {
    return write_options(read_options<Options>(parse_json(json)));
}

}  // namespace

TEST_CASE("options are written as they were read") {
    const std::string language =
        R"({"cell":"gru","vocab_size":7,"embedding_size":0,"hidden_size":5,"num_layers":2,"dropout":0.1,"weights":"bf16",)"
        R"("seed":18446744073709551615)";
    CHECK(copied<LanguageModelOptions>(language + "}") == language + "}");
    const std::string later = R"(,"embedding_dropout":0.0,"tie_weights":true,"residual":true,"norm":"rms"})";
    CHECK(copied<LanguageModelOptions>(language + later) == language + later);
    const std::string drops = R"(,"output_dropout":0.25,"weight_drop":0.5})";
    CHECK(copied<LanguageModelOptions>(language + drops) == language + drops);
    const std::string adaptive = R"(,"output":"adaptive","cutoffs":[2,4],"div_value":2.0})";
    CHECK(copied<LanguageModelOptions>(language + adaptive) == language + adaptive);
    const std::string sampled = R"(,"output":"sampled","num_sampled":3})";
    CHECK(copied<LanguageModelOptions>(language + sampled) == language + sampled);
    const std::string window = R"(,"norm":"layer","window":2})";
    CHECK(copied<LanguageModelOptions>(language + window) == language + window);
    const std::string translator =
        R"({"cell":"lstm","source_vocab_size":7,"target_vocab_size":8,"embedding_size":3,"hidden_size":5,"num_layers":1,)"
        R"("bidirectional":true,"context":"mean","initial_state":"learned","reads":["previous"],"attention":"general",)"
        R"("readout":"all","dropout":0.25,"output_dropout":1e-09,"teacher_forcing":0.3333333333333333,"weights":"f32",)"
        R"("seed":0})";
    CHECK(copied<Seq2SeqOptions>(translator) == translator);
    const std::string wide = translator.substr(0, translator.size() - 1) + R"(,"encoder_window":2})";
    CHECK(copied<Seq2SeqOptions>(wide) == wide);
}

TEST_CASE("an option that is missing, of another kind or unknown is named") {
    const auto refused = [](const std::string& json) {
        return sentence_of([&] { copied<LanguageModelOptions>(json); });
    };
    const std::string start = R"({"cell":"gru","vocab_size":7,"embedding_size":0,"hidden_size":5)";
    CHECK(contains(refused(start + "}"), "num_layers must be an integer from 1 to 2147483647"));
    CHECK(contains(refused(start + R"(,"num_layers":"2"})"), "num_layers must be an integer"));
    CHECK(contains(refused(start + R"(,"num_layers":2,"weights":"f16"})"),
                   "weights is 'f16': expected one of 'f32', 'bf16', 'int8'"));
    CHECK(contains(refused(start + R"(,"num_layers":2,"dropout":1})"), "dropout must be a number from 0 to below 1"));
    CHECK(contains(refused(start + R"(,"num_layers":2,"norm":"batch"})"),
                   "norm is 'batch': expected one of 'rms', 'layer'"));
    CHECK(contains(refused(start + R"(,"num_layers":2,"cutoffs":4})"), "cutoffs must be a short list of integers"));
    CHECK(contains(refused(start + R"(,"num_layers":2,"cutoffs":[0]})"), "cutoffs must be an integer from 1 to"));
    CHECK(contains(refused(R"({"bias":true})"), "\"bias\" is not known"));
}

TEST_CASE("numbers are spelled as short as they can be read back") {
    CHECK(json_number(0.0) == "0.0");
    CHECK(json_number(0.1) == "0.1");
    CHECK(json_number(1.0 / 3) == "0.3333333333333333");
    CHECK(json_number(0.1 + 0.2) == "0.30000000000000004");
}
