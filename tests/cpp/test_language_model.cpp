// A language model made to run a file gives the bits of one made to train, with the same weights.
#include <stdexcept>

#include "model_files.h"
#include "models/language_model_file.h"

using namespace rnnfast;
using namespace rnnfast::core;
using namespace rnnfast::tests;

TEST_CASE("a language model gives the same bits for running as for training, and keeps no values but an embedding") {
    const int32_t ids[] = {1, 5, 0, 2, 2, 4};
    const size_t steps = 5;
    for (const size_t embedding : {size_t{0}, size_t{3}}) {
        const ModelSizes sizes{"lstm", 4, 6, embedding, 5, 2};
        const std::string path = temporary_path("running");
        write_model(path, sizes, metadata_of(sizes));
        const LanguageModelFile file(SafetensorsFile::open(path));
        for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
            LanguageModel running(file, weights, active());
            LanguageModelOptions options = file.options;
            options.weights = weights;
            LanguageModel training(options, 1, active());
            const FileValues values = [&](const Parameter& p, Buffer& buffer) {
                return tensor_values(file.file, p.name, p.shape, buffer);
            };
            for (Parameter* p : training.parameters()) copy_values(*p, values);
            training.weights_changed();

            StreamState state = running.initial_state(1), other = training.initial_state(1);
            NetworkWorkspace workspace;
            std::vector<float> logits(sizes.vocabulary), other_logits(sizes.vocabulary);
            running.run(ids, steps, state, logits.data(), workspace);
            for (size_t i = 0; i < steps; ++i) {
                StreamState* const states[] = {&other};
                training.step(ids + i, states, 1, other_logits.data(), workspace, 1);
            }
            CHECK(logits == other_logits);

            std::vector<double> nll(steps), scores(steps);
            training.loss(ids, ids + 1, steps, 1, {}, {}, nll.data(), false, 0);
            StreamState fresh = running.initial_state(1);
            running.score(ids, steps + 1, fresh, scores.data(), workspace);
            for (size_t i = 0; i < steps; ++i) CHECK(scores[i] == -nll[i]);

            for (const Parameter* p : running.parameters()) CHECK((p->size() != 0) == (p->name == "embedding.weight"));
            CHECK_THROWS_AS(running.loss(ids, ids + 1, steps, 1, {}, {}, nll.data(), false, 0), std::logic_error);
        }
        unlink(path.c_str());
    }
}
