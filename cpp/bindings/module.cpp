#include <new>
#include <stdexcept>

#include "bindings/arrays.h"
#include "rnnfast/error.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
    using namespace rnnfast::bindings;
    m.doc() = "The compiled core of rnnfast; use the rnnfast package.";
    py::register_exception<rnnfast::Error>(m, "Error", PyExc_ValueError);
    py::register_exception_translator([](std::exception_ptr error) {
        try {
            std::rethrow_exception(error);
        } catch (const std::bad_alloc&) {
            py::set_error(PyExc_MemoryError, "not enough memory for arrays of this size: choose smaller sizes");
        } catch (const std::length_error&) {
            py::set_error(PyExc_MemoryError, "arrays of this size do not fit in any memory: choose smaller sizes");
        }
    });
    register_info(m);
    register_files(m);
    register_optimizer(m);
    register_recurrent(m);
    register_functions(m);
    register_stream(m);
    register_layers(m);
    register_sequence(m);
    register_network(m);
    register_language_model(m);
    register_seq2seq(m);
    register_translation(m);
}
