use std::time::Instant;
use tract_onnx::prelude::*;
fn time(name: &str, outs: &[&str], n: usize) {
    let bytes = std::fs::read("/work/main/models/demand.onnx").unwrap();
    let m = tract_onnx::onnx().model_for_read(&mut &bytes[..]).unwrap();
    let m = m.with_input_names(["features"]).unwrap().with_outputs_by_name(outs.iter().copied()).unwrap();
    let w = 370;
    let m = m.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), tvec!(n, w))).unwrap();
    let p = m.into_optimized().unwrap();
    if name == "all" { for node in p.nodes() { eprintln!("  {} {} {:?}", node.name, node.op.name(), node.outputs[0].fact.shape); } }
    let p = p.into_runnable().unwrap();
    let t = Tensor::zero::<f32>(&[n, w]).unwrap();
    let run = || { let t0 = Instant::now(); for _ in 0..300 { p.run(tvec!(t.clone().into())).unwrap(); } t0.elapsed().as_secs_f64() * 1e6 / 300.0 / n as f64 };
    run(); println!("{name} n={n}: {:.2} us", run());
}
fn main() {
    for n in [32, 128] {
        for (name, outs) in [("in", vec!["in_out"]), ("b0norm", vec!["b0_norm_out"]), ("b0up", vec!["b0_up_out"]), ("b0", vec!["b0_sum"]), ("b1", vec!["b1_sum"]), ("b2", vec!["b2_sum"]), ("out", vec!["out_out"]), ("stepsjoined", vec!["steps_joined"]), ("steps", vec!["steps"]), ("peaks", vec!["peaks"]), ("all", vec!["steps", "peaks"])] { time(name, &outs, n); }
    }
}
