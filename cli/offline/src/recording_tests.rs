#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn read(text: &str, column: &str) -> Result<Recording, Fault> {
    Recording::from_reader(Path::new("dir/a.csv"), text.as_bytes(), column, None)
}

#[test]
fn times_of_three_forms_are_read_alike() {
    let forms = [
        "timestamp,v\n2026-11-01 00:00:00,1\n2026-11-01 00:05:00,2\n2026-11-01 00:15:00,4\n",
        "timestamp,v\n2026-11-01T00:00:00Z,1\n2026-11-01T01:05:00+01:00,2\n2026-11-01T00:15:00.000Z,4\n",
        "timestamp,v\n1793491200,1\n1793491500,2\n1793492100,4\n",
    ];
    for form in forms {
        let recording = Recording::from_reader(Path::new("a.csv"), form.as_bytes(), "v", Some(300)).unwrap();
        assert_eq!(recording.values, [Some(1.0), Some(2.0), None, Some(4.0)], "{form}");
        assert!((recording.start_s - 1_793_491_200.0).abs() < 1e-6);
    }
}

#[test]
fn the_interval_is_the_usual_distance() {
    let text = "timestamp,v\n0,1\n60,1\n120,1\n4000,1\n4060,1\n";
    assert_eq!(read(text, "v").unwrap().interval_s, 60);
    assert_eq!(read("v\n1\n2\n", "v").unwrap().interval_s, 300);
}

#[test]
fn gaps_are_what_is_missing_and_what_is_no_demand() {
    let recording = read("v,w\n1,x\n,x\nNaN,x\n-3,x\ninf,x\nnull,x\n7,x\n", "v").unwrap();
    assert_eq!(recording.values, [Some(1.0), None, None, None, None, None, Some(7.0)]);
    assert_eq!(recording.left_out, 3);
}

#[test]
fn rows_of_one_step_are_averaged_and_late_ones_left_out() {
    let text = "timestamp,v\n0,2\n100,4\n300,10\n0,99\n600,20\n";
    let recording = Recording::from_reader(Path::new("a.csv"), text.as_bytes(), "v", Some(300)).unwrap();
    assert_eq!(recording.values, [Some(3.0), Some(10.0), Some(20.0)]);
    assert_eq!(recording.left_out, 1);
}

#[test]
fn an_export_says_what_it_is_of_and_one_of_several_series_is_refused() {
    let header = "timestamp,host,subject,resource,mean\n";
    let one = format!("{header}0,h,host,memory_bytes,5\n300,h,host,memory_bytes,6\n");
    assert_eq!(read(&one, "mean").unwrap().resource.as_deref(), Some("memory_bytes"));
    assert_eq!(read("timestamp,host,mean\n0,a,5\n300,b,6\n", "mean").unwrap().resource, None, "no export");
    for other in ["300,i,host,memory_bytes,6", "300,h,/a,memory_bytes,6", "300,h,host,cpu_millicores,6"] {
        let told = read(&format!("{header}0,h,host,memory_bytes,5\n{other}\n"), "mean").unwrap_err().to_string();
        assert!(told.contains("line 3") && told.contains("several series"), "{told}");
    }
}

#[test]
fn faults_name_file_line_and_what_is_wrong() {
    let told = |text, column| read(text, column).unwrap_err().to_string();
    assert!(told("a,b\n1,2\n", "v").contains("no column `v`; its header has a, b"));
    assert!(told("v\n1\nabc\n", "v").contains("a.csv, line 3: `abc` is no number"));
    assert!(told("timestamp,v\nyesterday,1\n", "v").contains("line 2: `yesterday` is no timestamp"));
    assert!(told("v\n\n,\n", "v").contains("holds no value"));
    assert!(told("timestamp,v\n0,1\n1,1\n2,1\n999999999,1\n", "v").contains("--interval"));
    assert!(
        Recording::read(Path::new("/nowhere/x.csv"), "v", None).unwrap_err().to_string().contains("/nowhere/x.csv")
    );
}

#[test]
fn only_rows_before_the_origin_are_seen() {
    let text = "timestamp,v\n0,1\n300,2\n1200,5\n1500,6\n";
    let recording = read(text, "v").unwrap();
    assert_eq!(recording.interval_s, 300);
    assert_eq!(recording.before(1).unwrap(), (1, vec![Some(1.0)]));
    // Row 2 lies two steps after row 1: what lies between is a gap.
    assert_eq!(recording.before(2).unwrap(), (4, vec![Some(1.0), Some(2.0), None, None]));
    assert_eq!(recording.before(4).unwrap().0, 6);
    assert!(recording.before(5).is_err());
    assert_eq!(recording.before(0).unwrap(), (0, vec![]));
}

#[test]
fn a_row_that_shares_its_step_with_the_origin_is_not_read_ahead() {
    // Rows 1 and 2 lie in one step: as of row 2 the step is row 1's alone... and that mean must not hold row 2.
    let text = "timestamp,v\n0,1\n300,2\n330,100\n600,3\n";
    let recording = Recording::from_reader(Path::new("a.csv"), text.as_bytes(), "v", Some(300)).unwrap();
    let (_, known) = recording.before(2).unwrap();
    assert_eq!(known, [Some(1.0), Some(2.0)]);
}

#[test]
fn kinds_are_guessed_from_names() {
    let cases = [
        ("cpu_percent", ResourceKind::Cpu),
        ("cpu_in_use", ResourceKind::Cpu),
        ("thread_time", ResourceKind::Cpu),
        ("cabinet", ResourceKind::Cpu),
        ("network_bits_per_second", ResourceKind::Network),
        ("value", ResourceKind::Cpu),
        ("mem_util", ResourceKind::Memory),
        ("Memory usage [KB]", ResourceKind::Memory),
        ("disk_write_bytes", ResourceKind::Disk),
        ("Disk read throughput [KB/s]", ResourceKind::Disk),
        ("net_in", ResourceKind::Network),
        ("Network received throughput", ResourceKind::Network),
    ];
    for (column, kind) in cases {
        assert_eq!(guessed_resource(column), kind, "{column}");
    }
}

#[test]
fn what_comes_after_the_row_that_is_forecast_is_read_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    let head = "timestamp,v\n0,1\n60,2\n120,3\n";
    std::fs::write(&path, format!("{head}180,4\n1000,x\n")).unwrap();
    let early = Recording::read_until(&path, "v", None, Some(3)).unwrap();
    let known = (3, vec![Some(1.0), Some(2.0), Some(3.0)]);
    assert_eq!((early.interval_s, early.before(3).unwrap()), (60, known.clone()));
    // The interval follows from rows before it: five rows an hour apart come after.
    std::fs::write(&path, format!("{head}180,9\n3780,1\n7380,1\n10980,1\n14580,1\n18180,1\n")).unwrap();
    assert_eq!(Recording::read_until(&path, "v", None, Some(3)).unwrap().before(3).unwrap(), known);
    assert!(matches!(Recording::read_until(&path, "v", None, Some(10)), Err(Fault::At { row: 10, rows: 9 })));
}

#[test]
fn a_row_before_the_first_is_left_out() {
    let recording =
        Recording::from_reader(Path::new("a.csv"), "timestamp,v\n1000,1\n0,99\n1300,2\n".as_bytes(), "v", Some(300))
            .unwrap();
    assert_eq!((recording.values, recording.left_out), (vec![Some(1.0), Some(2.0)], 1));
}

proptest! {
    #[test]
    fn any_text_is_a_series_or_a_fault(text in "(timestamp,)?v\n([0-9a-zA-Z.,:\\- \n]{0,120})") {
        if let Ok(recording) = read(&text, "v") {
            prop_assert!(recording.values.len() <= STEPS_MAX);
            prop_assert!(recording.values.iter().flatten().all(|value| is_demand(*value)));
            for row in 0..=recording.row_count() {
                let (origin, values) = recording.before(row).unwrap();
                prop_assert_eq!(origin, values.len());
            }
        }
    }
}
