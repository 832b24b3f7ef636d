"""What figures tell beyond noise: intervals, differences and fronts."""
