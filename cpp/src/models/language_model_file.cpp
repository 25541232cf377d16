#include "models/language_model_file.h"

#include "rnnfast/error.hpp"
#include "runtime/sentence.h"

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
                refuse_file({"the vocabulary has ", tokens.size(), " tokens, vocab_size is ", options.vocabulary});
        }
    } catch (const std::exception& error) {
        refuse_file({file.name(), ": its configuration cannot be used: ", error.what()});
    }
}

LanguageModelOptions LanguageModelFile::options_for(Weights weights) const {
    if (options.num_layers > file.tensors().size())
        refuse_file(
            {file.name(), ": its configuration needs ", options.num_layers, " layers; their weights are missing"});
    LanguageModelOptions wanted = options;
    wanted.weights = weights;
    return wanted;
}

void LanguageModelFile::check(const LanguageModel& model) const {
    std::vector<std::string_view> beginnings = {"embedding.", "rnn.", "output."};
    if (options.separate_layers()) beginnings.insert(beginnings.end(), {"layers.", "norm."});
    check_tensors(file, model.expected_tensors(), beginnings, model.options().weights);
}

}  // namespace rnnfast::core
