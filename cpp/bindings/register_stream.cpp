#include "bindings/arrays.h"
#include "bindings/layer.h"
#include "bindings/state.h"
#include "layers/stream.h"
#include "runtime/finite.h"

namespace rnnfast::bindings {

namespace {

// Below this a step takes less than 10 us, and getting the GIL back may take longer than the step.
constexpr double worth_releasing = 1e6;

class BoundStream {
public:
    // as_float32(array_like, name): what Python makes of other inputs than float32 arrays
    BoundStream(const Recurrent& layer, size_t rows, py::function as_float32)
        : stream_(layer, rows),
          as_float32_(std::move(as_float32)),
          rows_(rows),
          inputs_(layer.options().input_size),
          hidden_(layer.options().hidden_size) {}

    py::object step(py::handle given, py::handle out) {
        const bool fits = Array<float>::check_(given);
        const Array<float> x = fits ? py::reinterpret_borrow<Array<float>>(given) : as_float32(given, "input");
        const bool flat = check_rows(x, inputs_, "input");
        Array<float> y = out.is_none() ? new_output(flat) : given_output(out, flat);
        check_finite(x, inputs_, "input");
        const SoleUse busy = use();
        if (stream_.flops() < worth_releasing) {
            stream_.step(x.data(), y.mutable_data());
        } else {
            const float* from = x.data();
            float* to = y.mutable_data();
            const py::gil_scoped_release release;
            stream_.step(from, to);
        }
        return std::move(y);
    }

    py::object state() const {
        const SoleUse busy = use();
        const NewState now(parts());
        stream_.get_state(now.at.h, now.at.c, now.at.x);
        return now.arrays.size() == 1 ? py::object(now.arrays[0]) : py::object(now.arrays);
    }

    void set_state(const py::object& state) {
        if (state.is_none()) return reset();
        const StateParts own = parts();
        const bool several = own.count > 1;
        if (several &&
            (!py::isinstance<py::sequence>(state) || py::isinstance<py::array>(state) || py::len(state) != own.count))
            throw py::type_error(std::string("state of ") + stream_.layer().cell().name + " is " +
                                 (own.count == 2 ? "the pair (h, c)" : "(h, c, x)"));
        std::vector<Array<float>> arrays;
        RecurrentState given;
        for (size_t i = 0; i < own.count; ++i) {
            const char* name = own.parts[i]->name;
            arrays.push_back(several ? as_float32(state[py::int_(i)], name) : as_float32(state, "state"));
            check_shape(arrays[i], own.shape(i), name);
            check_finite(arrays[i], static_cast<size_t>(own.shape(i).back()), name);
            given.*own.parts[i]->in = arrays[i].data();
        }
        const SoleUse busy = use(true);
        stream_.set_state(given.h, given.c, given.x);
    }

    void reset() {
        const SoleUse busy = use(true);
        stream_.set_state(nullptr, nullptr);
    }

    size_t rows() const { return rows_; }

private:
    // A stream is one conversation: two threads in it at a time would mix their states.
    SoleUse use(bool writes_all = false) const {
        return {busy_, "this stream", "reset() it, or set its state", writes_all};
    }

    Array<float> as_float32(py::handle given, const char* name) const {
        return py::cast<Array<float>>(as_float32_(given, name));
    }

    StateParts parts() const { return {stream_.layer(), rows_}; }

    // A NaN would stay in the state and reach the output of every later step.
    static void check_finite(const Array<float>& array, size_t width, const char* name) {
        const auto size = static_cast<size_t>(array.size());
        if (const size_t at = first_not_finite(array.data(), size); at != size)
            throw std::invalid_argument(std::string(name) + " has NaN or infinity in row " +
                                        std::to_string(at / width) + " at " + std::to_string(at % width) +
                                        ": fill in missing values first");
    }

    // True for a single row without its axis.
    bool check_rows(const Array<float>& array, size_t width, const char* name) const {
        const auto w = signed_size(width), n = signed_size(rows_);
        if (array.ndim() == 2 && array.shape(0) == n && array.shape(1) == w) return false;
        if (array.ndim() == 1 && rows_ == 1 && array.shape(0) == w) return true;
        throw std::invalid_argument(std::string(name) + " has shape " + shape_text(array) + ", expected " +
                                    shape_text({n, w}) +
                                    (rows_ == 1 ? " or " + shape_text({w}) : " (rows of the stream, width)"));
    }

    Array<float> new_output(bool flat) const {
        if (flat) return Array<float>(signed_size(hidden_));
        return Array<float>({signed_size(rows_), signed_size(hidden_)});
    }

    Array<float> given_output(py::handle out, bool flat) const {
        if (!Array<float>::check_(out) || !py::reinterpret_borrow<py::array>(out).writeable())
            throw py::type_error("out must be a writeable C-contiguous float32 array");
        auto y = py::reinterpret_borrow<Array<float>>(out);
        if (check_rows(y, hidden_, "out") != flat)
            throw std::invalid_argument("out and input must both have the row axis, or neither");
        return y;
    }

    Stream stream_;
    py::function as_float32_;
    size_t rows_, inputs_, hidden_;
    mutable ForkSafeMutex busy_;
};

}  // namespace

void register_stream(py::module_& m) {
    py::class_<BoundStream>(m, "Stream", "A recurrent layer one time step at a time; see ``rnnfast.RNN.stream``.")
        .def(py::init([](const Layer& layer, size_t rows, py::function as_float32) {
                 return std::make_unique<BoundStream>(layer.rnn, rows, std::move(as_float32));
             }),
             py::arg("layer"), py::arg("rows"), py::arg("as_float32"), py::keep_alive<1, 2>())
        .def("__call__", &BoundStream::step, py::arg("x"), py::arg("out") = py::none(),
             "x (rows, input_size) to y (rows, hidden_size); for one row both may lack the row axis.")
        .def("reset", &BoundStream::reset, "Sets the state to zeros.")
        .def_property(
            "state", &BoundStream::state, &BoundStream::set_state,
            "A copy of the state (num_layers, rows, hidden_size), an LSTM's (h, c), that of a QRNN with a window of 2 "
            "(h, c, x). None sets zeros.")
        .def_property_readonly("rows", &BoundStream::rows)
        .def(
            "__reduce_ex__",
            [](const BoundStream&, int) -> py::object {
                throw py::type_error(
                    "a stream cannot be copied or pickled: make another with layer.stream() and set its state to this "
                    "one's");
            },
            py::arg("protocol"));
}

}  // namespace rnnfast::bindings
