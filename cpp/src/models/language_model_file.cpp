#include "models/language_model_file.h"

#include "ops/cell.h"
#include "ops/packing.h"
#include "rnnfast/error.hpp"

namespace rnnfast::core {

LanguageModelFile::LanguageModelFile(SafetensorsFile opened) : file(std::move(opened)) {
    check_format(file, "language_model");
    file.check_finite();
    const std::string& config_json = metadata_of(file, "config", "has no configuration");
    try {
        options = read_options<LanguageModelOptions>(parse_json(config_json));
        core::check(options);
        if (const auto text = file.metadata().find("vocabulary"); text != file.metadata().end()) {
            tokens = TokenTable(text->second);
            if (tokens.size() != options.vocabulary)
                throw Error("the vocabulary has " + std::to_string(tokens.size()) + " tokens, vocab_size is " +
                            std::to_string(options.vocabulary));
        }
    } catch (const std::exception& error) {
        throw Error(file.name() + ": its configuration cannot be used: " + error.what());
    }
}

LanguageModelOptions LanguageModelFile::checked_options(Weights wanted) const {
    check(wanted);
    LanguageModelOptions checked = options;
    checked.weights = wanted;
    return checked;
}

void LanguageModelFile::check(Weights wanted) const {
    const LanguageModelOptions& o = options;
    const size_t vocabulary = o.vocabulary, embedding_size = o.embedding_size, hidden_size = o.hidden_size;
    const size_t gates = cell_named(o.cell).gates, gate_rows = gates * hidden_size;
    const size_t columns = GateOrder{gates, hidden_size}.columns();
    if (o.num_layers > file.tensors().size())
        throw Error(file.name() + ": its configuration asks for " + std::to_string(o.num_layers) +
                    " layers; their weights are missing");
    std::vector<ExpectedTensor> all;
    if (embedding_size)
        all.push_back({"embedding.weight", {vocabulary, embedding_size}, embedding_size, Packing::rows});
    for (size_t layer = 0; layer < o.num_layers; ++layer) {
        const std::string end = "_l" + std::to_string(layer);
        const bool one_hot = layer == 0 && !embedding_size;
        const size_t inputs = layer ? hidden_size : one_hot ? vocabulary : embedding_size;
        all.push_back({"rnn.weight_ih" + end, {gate_rows, inputs}, columns, one_hot ? Packing::rows : Packing::panels});
        all.push_back({"rnn.weight_hh" + end, {gate_rows, hidden_size}, columns});
        all.push_back({"rnn.bias_ih" + end, {gate_rows}, 0});
        all.push_back({"rnn.bias_hh" + end, {gate_rows}, 0});
    }
    if (o.tie_weights)
        all.front().packing = Packing::panels, all.front().columns = vocabulary;
    else
        all.push_back({"output.weight", {vocabulary, hidden_size}, vocabulary});
    all.push_back({"output.bias", {vocabulary}, 0});
    check_tensors(file, all, {"embedding.", "rnn.", "output."}, wanted);
}

}  // namespace rnnfast::core
