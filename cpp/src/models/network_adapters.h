// What the adapters of layers share; each file of them lists its types.
#pragma once

#include <stdexcept>

#include "files/options.h"
#include "models/network_layer.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

// The width of the only input, which has numbers.
inline size_t only_input(const LayerPlace& place) {
    if (place.inputs.size() != 1) refuse({"has ", place.inputs.size(), " inputs, expected one"});
    if (place.inputs[0].ids) refuse({"reads ids, expected numbers; put an embedding in between"});
    return place.inputs[0].width;
}

// The kinds of at least two inputs, which have numbers.
inline const std::vector<SignalKind>& several_inputs(const LayerPlace& place) {
    if (place.inputs.size() < 2) refuse({"has one input, expected at least two"});
    for (const SignalKind& kind : place.inputs)
        if (kind.ids) refuse({"reads ids, expected numbers; put an embedding in between"});
    return place.inputs;
}

// A layer without options.
struct NoOptions {
    template <class Self, class Visit>
    static void fields(Self&, Visit&&) {}
};

template <class Adapter>
std::unique_ptr<NetworkLayer> make(const Json& json, const LayerPlace& place, std::string& written) {
    const auto options = read_options<typename Adapter::Options>(json);
    written = write_options(options);
    auto layer = std::make_unique<Adapter>(options, place);
    if constexpr (training)
        layer->set_backward(
            [](NetworkLayer& made, const LayerBackward& b) { static_cast<Adapter&>(made).backward(b); });
    return layer;
}

struct LayerType {
    const char* name;
    std::unique_ptr<NetworkLayer> (*make)(const Json& options, const LayerPlace& place, std::string& written);
};
struct LayerTypes {
    const LayerType *first, *last;
    const LayerType* begin() const { return first; }
    const LayerType* end() const { return last; }
};
LayerTypes layers_over_time();   // network_time_layers.cpp: what reads several steps, but for recurrent layers
LayerTypes layers_of_numbers();  // network_number_layers.cpp: functions of a step's numbers, without weights
LayerTypes layers_of_layers();   // network_inner_layers.cpp: layers inside each step

}  // namespace rnnfast::core
