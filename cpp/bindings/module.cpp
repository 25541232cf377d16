#include "bindings/arrays.h"
#include "rnnfast/error.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
    using namespace rnnfast::bindings;
    m.doc() = "The compiled core of rnnfast; use the rnnfast package.";
    py::register_exception<rnnfast::Error>(m, "Error", PyExc_ValueError);
    register_info(m);
    register_files(m);
    register_optimizer(m);
    register_recurrent(m);
    register_stream(m);
    register_layers(m);
    register_sequence(m);
    register_language_model(m);
    register_seq2seq(m);
    register_translation(m);
}
