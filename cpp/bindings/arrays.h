// NumPy arrays <-> plain pointers. Python has made them float32 or int32 and C-contiguous; here shapes are checked.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

namespace rnnfast::core {}

namespace rnnfast::bindings {

namespace py = pybind11;
using namespace core;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string shape_text(const std::vector<py::ssize_t>& shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

inline std::string shape_text(const py::array& array) {
    return shape_text({array.shape(), array.shape() + array.ndim()});
}

template <class T>
void check_shape(const Array<T>& array, const std::vector<py::ssize_t>& wanted, const std::string& what) {
    const std::vector<py::ssize_t> given(array.shape(), array.shape() + array.ndim());
    if (given != wanted)
        throw std::invalid_argument(what + " has shape " + shape_text(given) + ", expected " + shape_text(wanted));
}

using Lengths = std::optional<std::vector<int64_t>>;

// nullptr for None. The layers check the values.
inline const int64_t* lengths_data(const Lengths& lengths, py::ssize_t rows) {
    if (lengths && static_cast<py::ssize_t>(lengths->size()) != rows)
        throw std::invalid_argument("lengths has " + std::to_string(lengths->size()) + " entries, expected " +
                                    std::to_string(rows) + " (one per row)");
    return lengths ? lengths->data() : nullptr;
}

// nullptr for None.
inline const float* optional_data(const py::object& object, const std::vector<py::ssize_t>& wanted,
                                  const std::string& what) {
    if (object.is_none()) return nullptr;
    const auto array = py::cast<Array<float>>(object);
    check_shape(array, wanted, what);
    return array.data();
}

// A view of memory that `owner` keeps alive; users read it, and change weights through the methods that repack them.
inline py::array view(const float* data, const std::vector<size_t>& shape, py::handle owner, bool writeable = false) {
    std::vector<py::ssize_t> extents(shape.begin(), shape.end());
    py::array_t<float> array(extents, data, owner);
    if (!writeable) py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return array;
}

// The result of f(), which touches nothing of Python's.
template <class F>
auto without_gil(const F& f) {
    const py::gil_scoped_release release;
    return f();
}

inline py::ssize_t signed_size(size_t n) { return static_cast<py::ssize_t>(n); }

void register_info(py::module_& module);
void register_files(py::module_& module);
void register_recurrent(py::module_& module);
void register_functions(py::module_& module);
void register_stream(py::module_& module);
void register_layers(py::module_& module);
void register_sequence(py::module_& module);
void register_network(py::module_& module);
void register_language_model(py::module_& module);
void register_seq2seq(py::module_& module);
void register_translation(py::module_& module);
void register_optimizer(py::module_& module);

}  // namespace rnnfast::bindings
