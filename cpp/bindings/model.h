// What Python's compiled models have in common.
#pragma once

#include "bindings/arrays.h"
#include "files/options.h"
#include "runtime/dispatch.h"

namespace rnnfast::bindings {

// A model of a configuration as JSON.
template <class Model, class Options>
std::unique_ptr<Model> made_of(const std::string& config) {
    const py::gil_scoped_release release;
    const auto options = read_options<Options>(parse_json(config));
    return std::make_unique<Model>(options, options.seed, active());
}

}  // namespace rnnfast::bindings
