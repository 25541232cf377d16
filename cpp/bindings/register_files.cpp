#include <pybind11/stl.h>

#include <optional>

#include <cerrno>
#include <system_error>

#include "bindings/arrays.h"
#include "models/seq2seq/translator_file.h"
#include "ops/packing.h"
#include "runtime/dispatch.h"

namespace rnnfast::bindings {

namespace {

// What can be read as floats; tensors of other dtypes are left out. I8 stays as it is.
py::tuple as_python(SafetensorsFile file) {
    py::dict tensors;
    file.check_finite();
    for (const auto& [name, tensor] : file.tensors()) {
        if (tensor.dtype == Dtype::other) continue;
        const std::vector<py::ssize_t> shape(tensor.shape.begin(), tensor.shape.end());
        if (tensor.dtype == Dtype::i8) {
            Array<int8_t> array(shape);
            if (tensor.size) std::memcpy(array.mutable_data(), tensor.data, tensor.size);
            tensors[py::str(name)] = array;
            continue;
        }
        Array<float> array(shape);
        Buffer buffer;
        std::copy_n(file.floats(name, tensor, buffer), tensor.size, array.mutable_data());
        tensors[py::str(name)] = array;
    }
    return py::make_tuple(tensors, file.metadata());
}

// The checks that the C++ API makes when it loads a model; other kinds and other files are left to the caller.
void check_model(const SafetensorsFile& file, const std::optional<std::string>& weights) {
    const auto is = [&](const char* key, const char* value) {
        const auto found = file.metadata().find(key);
        return found != file.metadata().end() && found->second == value;
    };
    if (!is("format", "rnnfast")) return;
    if (is("kind", "language_model")) {
        const LanguageModelFile model(file);
        model.check(weights ? weights_named(*weights) : model.weights);
    } else if (is("kind", "seq2seq")) {
        const TranslatorFile model(file);
        model.check(weights ? weights_named(*weights) : model.options.weights);
    }
}

// float32 is written as F32, int8 as I8, uint16 as the bits of BF16.
TensorView view_of(const std::string& name, const py::array& array) {
    if (!(array.flags() & py::array::c_style)) throw std::invalid_argument(name + ": expected a C-contiguous array");
    TensorView view{{array.shape(), array.shape() + array.ndim()}, array.data(), static_cast<size_t>(array.size())};
    if (py::isinstance<py::array_t<float>>(array)) return view;
    view.dtype = py::isinstance<py::array_t<int8_t>>(array) ? Dtype::i8 : Dtype::bf16;
    if (view.dtype == Dtype::bf16 && !py::isinstance<py::array_t<uint16_t>>(array))
        throw std::invalid_argument(name + ": expected float32, int8, or uint16 for the bits of bfloat16");
    return view;
}

std::map<std::string, TensorView> views_of(const std::map<std::string, py::array>& arrays) {
    std::map<std::string, TensorView> views;
    for (const auto& [name, array] : arrays) views[name] = view_of(name, array);
    return views;
}

void check_matrix(const Array<float>& matrix) {
    if (matrix.ndim() != 2 || matrix.size() == 0)
        throw std::invalid_argument("the array has shape " +
                                    shape_text({matrix.shape(), matrix.shape() + matrix.ndim()}) +
                                    ", expected a matrix of weights");
}

}  // namespace

void register_files(py::module_& m) {
    m.def(
        "read_safetensors", [](const std::string& path) { return as_python(SafetensorsFile::open(path)); },
        py::arg("path"));
    m.def(
        "read_model",  // as read_safetensors, after every check of a model's configuration, vocabulary and shapes
        [](const std::string& path, const std::optional<std::string>& weights) {
            const SafetensorsFile file = SafetensorsFile::open(path);
            check_model(file, weights);
            return as_python(file);
        },
        py::arg("path"), py::arg("weights") = py::none());
    m.def(
        "parse_safetensors",
        [](const py::bytes& bytes, const std::string& name) {
            return as_python(SafetensorsFile::view(static_cast<std::string_view>(bytes), name));
        },
        py::arg("data"), py::arg("name") = "bytes");
    m.def(
        "write_safetensors_to",
        [](int descriptor, const std::string& name, const std::map<std::string, py::array>& arrays,
           const std::map<std::string, std::string>& metadata) {
            const std::map<std::string, TensorView> tensors = views_of(arrays);
            try {
                const py::gil_scoped_release release;
                write_safetensors(descriptor, name, tensors, metadata);
            } catch (const std::system_error& error) {
                errno = error.code().value();
                PyErr_SetFromErrno(PyExc_OSError);
                throw py::error_already_set();
            }
        },
        py::arg("descriptor"), py::arg("name"), py::arg("tensors"), py::arg("metadata"));
    m.def(
        "safetensors_bytes",  // the opposite of parse_safetensors
        [](const std::map<std::string, py::array>& arrays, const std::map<std::string, std::string>& metadata,
           const std::string& name) { return py::bytes(safetensors_bytes(views_of(arrays), metadata, name)); },
        py::arg("tensors"), py::arg("metadata"), py::arg("name") = "bytes");
    m.def(
        "write_safetensors",
        [](const std::string& path, const std::map<std::string, py::array>& arrays,
           const std::map<std::string, std::string>& metadata) {
            const std::map<std::string, TensorView> tensors = views_of(arrays);
            const py::gil_scoped_release release;
            write_safetensors(path, tensors, metadata);
        },
        py::arg("path"), py::arg("tensors"), py::arg("metadata"));
    m.def(
        "int8_rows",
        [](const Array<float>& matrix) {
            check_matrix(matrix);
            Array<int8_t> rounded({matrix.shape(0), matrix.shape(1)});
            Array<float> scales(matrix.shape(0));
            for (py::ssize_t r = 0; r < matrix.shape(0); ++r)
                scales.mutable_at(r) = int8_row(active(), matrix.data(r, 0), static_cast<size_t>(matrix.shape(1)),
                                                rounded.mutable_data(r, 0));
            return py::make_tuple(rounded, scales);
        },
        py::arg("matrix"));
    m.def(
        "bf16_rows",
        [](const Array<float>& matrix) {
            check_matrix(matrix);
            Array<uint16_t> rounded({matrix.shape(0), matrix.shape(1)});
            for (py::ssize_t r = 0; r < matrix.shape(0); ++r)
                bf16_row(active(), matrix.data(r, 0), static_cast<size_t>(matrix.shape(1)), rounded.mutable_data(r, 0));
            return rounded;
        },
        py::arg("matrix"));
}

}  // namespace rnnfast::bindings
